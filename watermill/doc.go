// Package watermill lets what was written for Watermill work with this toolkit.
package watermill
