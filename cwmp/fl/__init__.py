"""Federated training under joule budgets: data, models, algorithms, engines and the ledger."""
