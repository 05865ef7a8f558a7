package estest_test

func (h *modelsHunt) processes() {
	none := func() func(m *modelsMutant) { return nil }
	h.mutants = append(h.mutants, apart(modelsWith(noFault, none), "J2/processes_apply_each_event_once")...)
}
