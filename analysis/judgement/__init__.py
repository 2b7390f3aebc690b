"""Trust in an answer: roll-outs, forecasts, choices, prices, and treatments compared."""
