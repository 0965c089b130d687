package policy

// eval judges one condition: one key under one operator.
func (c *Condition) eval(v *view) Truth {
	vals, p := v.get(c.key)
	op := &c.op
	if op.family == familyNull {
		return c.evalNull(p)
	}
	switch p {
	case unknowable:
		return Unknown
	case absent:
		// "If the key that you specify in a policy condition is not present in the
		// request context, the values do not match and the condition is false. If
		// the policy condition requires that the key is not matched … the condition
		// is true." ForAllValues "returns true if there are no context keys",
		// ForAnyValue false; IfExists makes all of them true.
		switch {
		case op.ifExists:
			return True
		case op.set == forAll:
			return True
		case op.set == forAny:
			return False
		}
		return truth(op.negated)
	}
	if len(vals) == 1 {
		value := vals[0]
		t := c.evalOne(v, value)
		if op.set == forAll && value == "" && t == False {
			// "…or if the key values resolve to a null dataset, such as an empty
			// string", which makes ForAllValues true by one reading.
			t = Unknown
		}
		return t
	}
	every, some := True, False
	for _, value := range vals {
		t := c.evalOne(v, value)
		every, some = min(every, t), max(some, t)
	}
	switch op.set {
	case forAll:
		return every
	case forAny:
		return some
	}
	// Several values without a set operator: AWS does not say what becomes of
	// them, so only what holds under both readings holds.
	if every == some {
		return every
	}
	return Unknown
}

func (c *Condition) evalNull(p presence) Truth {
	if p == unknowable {
		if c.nullWants(true) && c.nullWants(false) {
			return True
		}
		return Unknown
	}
	return truth(c.nullWants(p == absent))
}

func (c *Condition) nullWants(isAbsent bool) bool {
	for i := range c.operands {
		if c.operands[i].yes == isAbsent {
			return true
		}
	}
	return false
}

// evalOne judges one value of the request: a positive operator wants one of the
// policy's values to match it, a negated one wants none to.
func (c *Condition) evalOne(v *view, value string) Truth {
	t, missing := False, false
	for i := range c.operands {
		one, m := c.op.compare(v, &c.operands[i], value)
		missing = missing || m
		if t = max(t, one); t == True {
			break
		}
	}
	if !c.op.negated {
		return t
	}
	if t == False && missing {
		return Unknown // nothing equals a missing value, or the statement is invalid
	}
	return t.not()
}
