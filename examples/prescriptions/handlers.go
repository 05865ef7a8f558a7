package main

import (
	"context"
	"errors"
	"fmt"

	es "github.com/eventsourcing-go/eventsourcing"
	"github.com/eventsourcing-go/eventsourcing/router"
)

// topic is that of all events of prescriptions: their category.
const topic = "prescription"

// uploadedName is the name of the event that carries a file. Its data is the file as it is, and its content type that of the file.
const uploadedName = "PrescriptionUploaded"

// OCRCompleted tells that the text of a prescription was extracted.
type OCRCompleted struct {
	Text string `json:"text"`
}

// InteractionsChecked tells which of the medicines must not be taken together.
type InteractionsChecked struct {
	Found []string `json:"found"`
}

// DuplicatesChecked tells which of the medicines do the same.
type DuplicatesChecked struct {
	Found []string `json:"found"`
}

// ContraindicationsChecked tells which of the medicines must not be taken under a condition that the prescription names.
type ContraindicationsChecked struct {
	Found []string `json:"found"`
}

// projection is what a check has found, as it is listed.
type projection struct {
	Prescription  string   `json:"prescription"`
	Event         string   `json:"event"`
	Found         []string `json:"found"`
	CorrelationID string   `json:"correlation_id"`
	CausationID   string   `json:"causation_id"`
}

// routes adds a route for each handler. Those of one topic each see all of its messages, beside each other.
func routes(r *router.Router, projections es.Model[projection]) error {
	types := es.NewTypes()
	es.Register[OCRCompleted](types, "OCRCompleted")
	es.Register[InteractionsChecked](types, "InteractionsChecked")
	es.Register[DuplicatesChecked](types, "DuplicatesChecked")
	es.Register[ContraindicationsChecked](types, "ContraindicationsChecked")

	check := func(find func(text string) []string, event func(found []string) any) *router.Case {
		return router.On(types, func(_ context.Context, e OCRCompleted, d *es.Delivery) ([]*es.Message, error) {
			m, err := types.Encode(d.Stream, event(find(e.Text)))
			return []*es.Message{m}, err
		})
	}
	options := func(name string) router.Options {
		return router.Options{
			Name: name, Concurrency: 4, // prescriptions at once; what belongs to one is handled in order
			Start: es.Start{Kind: es.StartBeginning},
		}
	}
	return errors.Join(
		r.Route(topic, ocr(types), options("ocr")),
		r.Route(topic, check(findInteractions, func(found []string) any { return InteractionsChecked{found} }), options("interactions")),
		r.Route(topic, check(findDuplicates, func(found []string) any { return DuplicatesChecked{found} }), options("duplicates")),
		r.Route(topic, check(findContraindications, func(found []string) any { return ContraindicationsChecked{found} }),
			options("contraindications")),
		r.Route(topic, router.Switch(
			router.On(types, func(ctx context.Context, e InteractionsChecked, d *es.Delivery) ([]*es.Message, error) {
				return nil, project(ctx, projections, d, e.Found)
			}),
			router.On(types, func(ctx context.Context, e DuplicatesChecked, d *es.Delivery) ([]*es.Message, error) {
				return nil, project(ctx, projections, d, e.Found)
			}),
			router.On(types, func(ctx context.Context, e ContraindicationsChecked, d *es.Delivery) ([]*es.Message, error) {
				return nil, project(ctx, projections, d, e.Found)
			}),
		), options("projections")),
	)
}

// ocr extracts the text of what was uploaded.
func ocr(types *es.Types) es.HandlerFunc {
	return func(_ context.Context, d *es.Delivery) ([]*es.Message, error) {
		if d.Name != uploadedName {
			return nil, es.Skip(nil)
		}
		m, err := types.Encode(d.Stream, OCRCompleted{Text: textOf(d.ContentType, d.Data)})
		return []*es.Message{m}, err
	}
}

// project saves what a check has found, under the prescription and the position of the event: to save it again changes nothing.
func project(ctx context.Context, projections es.Model[projection], d *es.Delivery, found []string) error {
	return projections.Save(ctx, fmt.Sprintf("%s/%020d", d.Stream, d.Position), projection{
		Prescription: d.Stream, Event: d.Name, Found: found, CorrelationID: d.CorrelationID, CausationID: d.CausationID,
	}, es.Any)
}
