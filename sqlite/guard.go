package sqlite

import (
	"fmt"
	"regexp"
	"strings"

	lite "zombiezen.com/go/sqlite"
)

// guard keeps a program's own statements from what would break the promises: to end the transaction they are in, or a part of it; to
// change the toolkit's tables, or take their names; and to change how the file is kept. SQLite asks it while a statement is prepared,
// about triggers and views that it uses too; the toolkit's own statements pass.
type guard struct {
	own     bool   // a statement of the program's own is being prepared
	writes  bool   // it may write
	alters  bool   // it alters a table
	refused string // what was refused
	asked   bool   // SQLite asks it
}

// install has SQLite ask the guard, when it is needed first: the statements that a connection has are prepared anew then.
func (g *guard) install(c *conn) error {
	if g.asked {
		return nil
	}
	err := fault(c.SetAuthorizer(g))
	g.asked = err == nil
	return err
}

// allow begins the preparation of a statement of the program's own.
func (g *guard) allow() { g.own, g.alters, g.refused = true, false, "" }

// forbid ends the preparation of a statement, and returns what of it was refused.
func (g *guard) forbid(query string) string {
	g.own = false
	if g.refused == "" && g.alters && reservedName.MatchString(query) { // SQLite does not tell the new name of what is renamed
		g.refused = "alters a table, and has a name in it that begins with es_"
	}
	return g.refused
}

// reservedName matches a text that has a name in it which begins with es_.
var reservedName = regexp.MustCompile(`(?i)(^|[^\pL\pN_$])es_`)

// Authorize is that of [lite.Authorizer].
func (g *guard) Authorize(a lite.Action) lite.AuthResult {
	if !g.own {
		return lite.AuthResultOK
	}
	if why := g.objection(a); why != "" {
		if g.refused == "" {
			g.refused = why
		}
		return lite.AuthResultDeny
	}
	return lite.AuthResultOK
}

// objection says what is wrong with an action, and nothing when it may be.
func (g *guard) objection(a lite.Action) string {
	switch a.Type() { //nolint:exhaustive // the others write
	case lite.OpTransaction, lite.OpSavepoint: // a part that is rolled back would take with it what the toolkit has done in it
		return "begins or ends a transaction, or a part of one"
	case lite.OpAttach, lite.OpDetach:
		return "attaches or detaches a file"
	case lite.OpPragma:
		if onlyTells(a.Pragma(), a.PragmaArg()) {
			return ""
		}
		return "has the pragma " + a.Pragma()
	case lite.OpSelect, lite.OpRead, lite.OpFunction, lite.OpRecursive:
		return ""
	case lite.OpAlterTable:
		g.alters = true
	}
	if !g.writes {
		return "writes"
	}
	for _, name := range [...]string{a.Table(), a.View(), a.Index(), a.Trigger()} {
		if reserved(name) {
			return fmt.Sprintf("changes %s, or something of that name", name)
		}
	}
	return ""
}

// reserved tells whether a name is the toolkit's, or leads to the bare pages of the file.
func reserved(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "es_") || name == "sqlite_dbpage"
}

// onlyTells tells whether a pragma changes nothing.
func onlyTells(name, arg string) bool {
	switch strings.ToLower(name) {
	case "table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list":
		return true
	case "user_version", "application_id", "data_version", "schema_version":
		return arg == ""
	}
	return false
}
