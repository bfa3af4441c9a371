"""What exists, one module a layer: raw, candles, objects, slots, tables, and the checks on them."""
