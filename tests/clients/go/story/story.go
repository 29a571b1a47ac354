// Package story is what the Go client stories share: one story per run, and checks that explain.
//
// A program is started as `PROGRAM STORY HOST:PORT`. It exits with 0 and prints `ok STORY`, or it
// fails with what did not hold. It uses its client as that client's users do: no option is set
// that a tutorial would not set, unless the story is about that option.
package story

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"time"
)

const patience = 40 * time.Second

// Story is told to the node at that address.
type Story func(ctx context.Context, bootstrap string)

// Main runs the story that the command line names.
func Main(stories map[string]Story) {
	if len(os.Args) != 3 || stories[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: STORY HOST:PORT")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stories[os.Args[1]](ctx, os.Args[2])
	fmt.Println("ok", os.Args[1])
}

// Check fails the story with an error, if there is one.
func Check(err error) {
	if err != nil {
		panic(err)
	}
}

// Must gives the value, or fails the story.
func Must[T any](value T, err error) T {
	Check(err)
	return value
}

// Expect fails the story unless something holds.
func Expect(holds bool, what string, more ...any) {
	if !holds {
		panic(fmt.Sprintf(what, more...))
	}
}

// Equal fails the story unless both are the same.
func Equal(found, wanted any, what string) {
	Expect(reflect.DeepEqual(found, wanted), "%s: found %v, wanted %v", what, found, wanted)
}

// Until asks again until it holds; what it asks is a round trip, so nothing spins.
func Until(ctx context.Context, what string, holds func() bool) {
	for !holds() {
		Expect(ctx.Err() == nil, "gave up waiting for %s", what)
	}
}

// Numbers are first..end as text, in the order of the text.
func Numbers(first, end int) []string {
	var all []string
	for number := first; number < end; number++ {
		all = append(all, strconv.Itoa(number))
	}
	slices.Sort(all)
	return all
}

// Sorted is a sorted copy.
func Sorted(texts []string) []string {
	sorted := slices.Clone(texts)
	slices.Sort(sorted)
	return sorted
}
