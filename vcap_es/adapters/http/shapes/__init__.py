"""The shapes of the JSON that the control plane takes and answers, one module a noun."""
