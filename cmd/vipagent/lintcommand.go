package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"holdfast/cmd/internal/daemon"
	"holdfast/vipagent/keepalived"
)

// Exit codes of lint beside those of keepalived.ExitCode.
const (
	// lintUsage: a wrong flag, or no file.
	lintUsage = 1
	// lintUnusable: Keepalived has no complaint, and Holdfast must not use the file.
	lintUnusable = 7
)

const lintLong = `Read configurations of Keepalived, and say what is wrong with them, and what of
them Holdfast does not do. "-" is the standard input.

The exit code is the one of "keepalived --config-test" for the worst file, with two
of its own:

  0  no complaint
  1  wrong usage
  2  a keyword lacks its argument: Keepalived ends there
  3  a file is missing, empty or cannot be read (Keepalived says 0, and does nothing)
  4  Keepalived would not run
  5  it would run, after it changed or ignored something
  6  programs are run without enable_script_security
  7  Keepalived has no complaint, but Holdfast must not use the file`

// lintCommand is "vipagent lint".
func lintCommand(args []string, in io.Reader, out, talk io.Writer) int {
	code := lintUsage
	asJSON, options := false, keepalived.Options{}
	root := &cobra.Command{Use: "vipagent", SilenceUsage: true, SilenceErrors: true}
	lint := &cobra.Command{
		Use:   "lint FILE...",
		Short: "say what is wrong with a keepalived.conf, and what of it is not handled",
		Long:  lintLong,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, names []string) (err error) {
			options.Env, options.PWD = environment(), workingDirectory()
			if code, err = lintFiles(names, in, out, options, asJSON); err != nil {
				code = lintUsage
			}
			return err
		},
	}
	lint.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	lint.Flags().StringVar(&options.ConfigID, "config-id", hostName(), "which lines that begin with @ID count, as of keepalived --config-id")
	lint.SetHelpFunc(func(c *cobra.Command, _ []string) {
		code = daemon.ExitOK
		fmt.Fprintf(out, "%s\n\n%s", c.Long, c.UsageString())
	})
	root.AddCommand(lint)
	root.SetArgs(append([]string{"lint"}, args...))
	root.SetOut(out)
	root.SetErr(talk)
	root.CompletionOptions.DisableDefaultCmd = true
	if err := root.Execute(); err != nil {
		fmt.Fprintf(talk, "vipagent lint: %v\n", err)
	}
	return code
}

// hostName is Keepalived's default of --config-id.
func hostName() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

func workingDirectory() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	return dir
}

// environment is what ${_ENV NAME} may ask for.
func environment() map[string]string {
	env := make(map[string]string)
	for _, e := range os.Environ() {
		if name, value, ok := strings.Cut(e, "="); ok {
			env[name] = value
		}
	}
	return env
}

// standardInput is files of which one, "-", comes from elsewhere.
type standardInput struct {
	daemon.KeepalivedFiles
	content []byte
}

func (s standardInput) Read(path string) ([]byte, error) {
	if path == "-" {
		return s.content, nil
	}
	return s.KeepalivedFiles.Read(path)
}

// linted is what there is to say about a file.
type linted struct {
	File        string                  `json:"file"`
	Code        int                     `json:"code"`
	Usable      bool                    `json:"usable"`
	Instances   int                     `json:"instances"`
	Diagnostics []keepalived.Diagnostic `json:"diagnostics"`
}

func lintFiles(names []string, in io.Reader, out io.Writer, o keepalived.Options, asJSON bool) (code int, err error) {
	files := standardInput{}
	var all []linted
	for _, name := range names {
		if name == "-" && files.content == nil {
			if files.content, err = io.ReadAll(in); err != nil {
				return 0, fmt.Errorf("read standard input: %w", err)
			}
		}
		c, ds := keepalived.Parse(files, name, o)
		l := linted{File: name, Code: keepalived.ExitCode(ds), Usable: !keepalived.Fatal(ds), Instances: len(c.Instances), Diagnostics: ds}
		if l.Diagnostics == nil {
			l.Diagnostics = []keepalived.Diagnostic{}
		}
		code = worse(code, l)
		all = append(all, l)
	}
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return code, e.Encode(all)
	}
	var errs []error
	for _, l := range all {
		errs = append(errs, printLinted(out, files, l))
	}
	return code, errors.Join(errs...)
}

// worse is the code of a file, if it is worse than what was before.
func worse(code int, l linted) int {
	own := l.Code
	if own == 0 && !l.Usable {
		own = lintUnusable
	}
	for _, c := range []int{2, 3, 4, lintUnusable, 6, 5} {
		if code == c || own == c {
			return c
		}
	}
	return 0
}

// printLinted writes each diagnostic with the line it is about, and a summary.
func printLinted(out io.Writer, files keepalived.Files, l linted) error {
	var b strings.Builder
	lines := sourceLines{files: files, of: make(map[string][]string)}
	count := make(map[keepalived.Severity]int)
	for _, d := range l.Diagnostics {
		count[d.Severity]++
		fmt.Fprintln(&b, d)
		if line, ok := lines.line(d.Position); ok {
			fmt.Fprintf(&b, "%5d | %s\n      | %s^\n", d.Line, line, indent(line, d.Column))
		}
	}
	fmt.Fprintf(&b, "%s: %s, %s, %d unhandled, %d info; ", l.File, counted(count[keepalived.Error], "error"), counted(count[keepalived.Warning], "warning"),
		count[keepalived.Unhandled], count[keepalived.Info])
	usable := "usable"
	if !l.Usable {
		usable = "not usable"
	}
	fmt.Fprintf(&b, "%s, %s (exit code %d)\n", counted(l.Instances, "vrrp_instance"), usable, worse(0, l))
	_, err := io.WriteString(out, b.String())
	return err
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// sourceLines are the lines of the files that diagnostics are about.
type sourceLines struct {
	files keepalived.Files
	of    map[string][]string
}

func (s sourceLines) line(p keepalived.Position) (string, bool) {
	lines, ok := s.of[p.File]
	if !ok {
		content, err := s.files.Read(p.File)
		if err == nil {
			lines = strings.Split(string(content), "\n")
		}
		s.of[p.File] = lines
	}
	if p.Line < 1 || p.Line > len(lines) {
		return "", false
	}
	line := strings.TrimRight(lines[p.Line-1], "\r")
	return line, line != ""
}

// indent is what puts a caret below a column: tabs stay tabs, and a character of
// several bytes is one wide.
func indent(line string, column int) string {
	var b strings.Builder
	for i, r := range line {
		if i >= column-1 {
			break
		}
		if r == '\t' {
			b.WriteByte('\t')
		} else {
			b.WriteByte(' ')
		}
	}
	return b.String()
}
