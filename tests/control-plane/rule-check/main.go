// Checks files of rules as `promtool check rules` does, by the package of Prometheus that promtool uses itself. promtool as a
// whole brings the client libraries of every cloud.
package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
)

func main() {
	code, rules := 0, 0
	for _, file := range os.Args[1:] {
		groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.Default())
		for _, err := range errs {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		if groups != nil {
			for _, group := range groups.Groups {
				rules += len(group.Rules)
			}
		}
	}
	fmt.Printf("%d rules\n", rules)
	os.Exit(code)
}
