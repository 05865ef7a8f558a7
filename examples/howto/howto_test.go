package howto_test

import (
	"context"
	"fmt"
)

// run runs the code of a page, and prints the error that it ends with.
func run(page func(ctx context.Context) error) {
	if err := page(context.Background()); err != nil {
		fmt.Println("error:", err)
	}
}
