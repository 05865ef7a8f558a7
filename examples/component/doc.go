// Package component has two parts written by somebody who does not know the toolkit from the inside: a read-model store and a
// pub/sub, each as small as it can be and still keep what its role promises. The how-to page "Write a component" explains them.
package component
