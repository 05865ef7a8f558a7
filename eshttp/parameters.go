package eshttp

import (
	"encoding"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	es "github.com/eventsourcing-go/eventsourcing"
)

// Parameters returns a function that reads a Q from a request. Q is a struct whose fields have tags:
//
//	type orders struct {
//		Customer uuid.UUID `path:"customer"`    // a wildcard of the route
//		State    []string  `query:"state"`      // ?state=open&state=paid
//		Limit    int       `query:"limit"`      // zero when it is not there
//		Since    time.Time `query:"since,required"`
//	}
//
// A field is a string, a bool, a number, what has an UnmarshalText, or, of query parameters, a slice of these. Fields without a tag, and
// parameters without a field, are left alone. The function's error is a [*Problem] of status 422 that names each parameter which
// does not fit; that of Parameters is es.ErrInvalid, for a Q that cannot be read.
func Parameters[Q any]() (func(r *http.Request) (Q, error), error) {
	of := reflect.TypeFor[Q]()
	if of.Kind() != reflect.Struct {
		return nil, es.Invalidf("query type", "is %v; it takes a struct whose fields have the tags path and query", of)
	}
	var fields []parameter
	for _, f := range reflect.VisibleFields(of) {
		p, tagged := parameterOf(f)
		if !tagged {
			continue
		}
		_, err := reflect.New(of).Elem().FieldByIndexErr(f.Index) // it may be behind a pointer that is nil
		if !f.IsExported() || !p.readable() || err != nil {
			return nil, es.Invalidf("query type", "has the field %s of type %v, which cannot be read from a parameter", f.Name, f.Type)
		}
		fields = append(fields, p)
	}
	return func(r *http.Request) (Q, error) {
		var q, none Q
		if err := readParameters(r, fields, reflect.ValueOf(&q).Elem()); err != nil {
			return none, err
		}
		return q, nil
	}, nil
}

// parameter is a field of a query and where it comes from.
type parameter struct {
	field    []int
	of       reflect.Type
	name     string
	path     bool // else it is a query parameter
	required bool
}

func parameterOf(f reflect.StructField) (parameter, bool) {
	tag, path := f.Tag.Lookup("path")
	if !path {
		var query bool
		if tag, query = f.Tag.Lookup("query"); !query {
			return parameter{}, false
		}
	}
	name, option, _ := strings.Cut(tag, ",")
	return parameter{field: f.Index, of: f.Type, name: name, path: path, required: option == "required"}, true
}

func (p parameter) readable() bool {
	of := p.of
	if !p.path && of.Kind() == reflect.Slice && !isText(of) {
		of = of.Elem()
	}
	return p.name != "" && (isText(of) || settable(of.Kind()))
}

func isText(of reflect.Type) bool {
	return reflect.PointerTo(of).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

func settable(kind reflect.Kind) bool {
	return kind == reflect.String || kind == reflect.Bool || kind >= reflect.Int && kind <= reflect.Uint64 ||
		kind == reflect.Float32 || kind == reflect.Float64
}

// readParameters fills in the fields of a query.
func readParameters(r *http.Request, fields []parameter, q reflect.Value) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return Problemf(http.StatusBadRequest, "the query parameters cannot be read")
	}
	var wrong []ProblemError
	for _, p := range fields {
		values := query[p.name]
		if p.path {
			values = nil
			if value := r.PathValue(p.name); value != "" {
				values = []string{value}
			}
		}
		if detail := p.set(q.FieldByIndex(p.field), values); detail != "" {
			wrong = append(wrong, ProblemError{Detail: "the parameter " + p.name + " " + detail})
		}
	}
	switch len(wrong) {
	case 0:
		return nil
	case 1:
		return Problemf(http.StatusUnprocessableEntity, "%s", wrong[0].Detail)
	}
	problem := Problemf(http.StatusUnprocessableEntity, "%d parameters do not fit", len(wrong))
	problem.Errors = wrong
	return problem
}

// set gives a field its values. It returns what is wrong with them.
func (p parameter) set(field reflect.Value, values []string) string {
	switch {
	case len(values) == 0 && p.required:
		return "is missing"
	case len(values) == 0:
		return ""
	case p.of.Kind() == reflect.Slice && !isText(p.of):
		all := reflect.MakeSlice(p.of, len(values), len(values))
		for i, value := range values {
			if detail := setText(all.Index(i), value); detail != "" {
				return detail
			}
		}
		field.Set(all)
		return ""
	case len(values) > 1:
		return "is there more than once"
	}
	return setText(field, values[0])
}

func setText(field reflect.Value, text string) string {
	if target, ok := reflect.TypeAssert[encoding.TextUnmarshaler](field.Addr()); ok {
		if err := target.UnmarshalText([]byte(text)); err != nil {
			return "does not have the form that is asked for"
		}
		return ""
	}
	kind, of := field.Kind(), field.Type()
	switch {
	case kind == reflect.String:
		field.SetString(text)
	case kind == reflect.Bool:
		on, err := strconv.ParseBool(text)
		if err != nil {
			return "takes true or false"
		}
		field.SetBool(on)
	case field.CanInt():
		n, err := strconv.ParseInt(text, 10, of.Bits())
		if err != nil {
			return "takes a whole number of at most " + strconv.Itoa(of.Bits()) + " bits"
		}
		field.SetInt(n)
	case field.CanUint():
		n, err := strconv.ParseUint(text, 10, of.Bits())
		if err != nil {
			return "takes a whole number of at most " + strconv.Itoa(of.Bits()) + " bits that is not negative"
		}
		field.SetUint(n)
	default:
		n, err := strconv.ParseFloat(text, of.Bits())
		if err != nil {
			return "takes a number"
		}
		field.SetFloat(n)
	}
	return ""
}
