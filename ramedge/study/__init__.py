"""The paper's Table 2 at a size one can afford: eleven attention mechanisms, trained alike."""
