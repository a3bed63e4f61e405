"""How good pictures are: metrics, the parity gate, the INT8 budget, benchmark sets, tables."""
