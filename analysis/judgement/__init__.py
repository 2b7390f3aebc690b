"""How far an answer can be trusted: roll-outs, forecasts, choices, prices, and treatments compared."""
