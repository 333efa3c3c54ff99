// The Go client (github.com/apache/rocketmq-client-go/v2) against the servers that run.sh has started.
//
// Environment: NAMESRV (host:port), ONLY (run the checks whose name starts so). Prints one line for each check and last
// `note done`.
package main

import (
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/apache/rocketmq-client-go/v2/rlog"
)

const limit = 90 * time.Second

// A check returns the figures to print, or what is not as expected.
type check struct {
	name string
	run  func() (string, error)
}

func main() {
	rlog.SetLogLevel("error")
	rlog.SetOutputPath(os.Getenv("CLIENT_LOG"))
	var checks []check
	checks = append(checks, sendChecks()...)
	checks = append(checks, consumeChecks()...)
	checks = append(checks, exchangeChecks()...)
	var wait sync.WaitGroup
	for _, one := range checks {
		if !strings.HasPrefix("go-"+one.name, os.Getenv("ONLY")) {
			continue
		}
		wait.Add(1)
		// Most of a check is waiting for the client's own timers.
		go func(one check) {
			defer wait.Done()
			report(one)
		}(one)
	}
	wait.Wait()
	fmt.Println("note done")
}

func report(one check) {
	type outcome struct {
		figures string
		err     error
	}
	begun := time.Now()
	done := make(chan outcome, 1)
	go func() {
		defer func() {
			if cause := recover(); cause != nil {
				done <- outcome{err: fmt.Errorf("panic: %v", cause)}
			}
		}()
		figures, err := one.run()
		done <- outcome{figures, err}
	}()
	var got outcome
	select {
	case got = <-done:
	case <-time.After(limit):
		got.err = fmt.Errorf("expected an end within %v, got none", limit)
	}
	if got.err != nil {
		text := strings.Join(strings.Fields(got.err.Error()), " ")
		if len(text) > 600 {
			text = text[:600] + "..."
		}
		fmt.Printf("FAIL go-%s: %s\n", one.name, text)
		return
	}
	fmt.Printf("ok go-%s: %s (%d ms)\n", one.name, got.figures, time.Since(begun).Milliseconds())
}

// await asks again every 20 ms.
func await(what string, seconds int, holds func() bool) error {
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	for !holds() {
		if time.Now().After(end) {
			return fmt.Errorf("expected within %d s: %s", seconds, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func equal(expected, got interface{}, what string) error {
	if want, have := fmt.Sprint(expected), fmt.Sprint(got); want != have {
		return fmt.Errorf("%s: expected %s, got %s", what, want, have)
	}
	return nil
}

// same compares contents by id.
func same(expected, got map[string]string, what string) error {
	var wrong []string
	for id, content := range expected {
		have, ok := got[id]
		if !ok {
			wrong = append(wrong, "missing "+id)
		} else if have != content {
			wrong = append(wrong, fmt.Sprintf("%s: %.60q became %.60q", id, content, have))
		}
	}
	for id := range got {
		if _, ok := expected[id]; !ok {
			wrong = append(wrong, "unexpected "+id)
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	sort.Strings(wrong)
	return fmt.Errorf("%s: expected %d messages, got %d: %d wrong, e.g. %s", what, len(expected), len(got), len(wrong), wrong[0])
}
