"""Detection measured: 1,000 training fields, a frozen test sky, and what else people would use."""
