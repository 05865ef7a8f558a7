// Package howto has the code of the how-to pages in docs/how-to, as examples that run: what a page shows stands here word for
// word, which tests/docs checks.
package howto
