"""Estimators in scikit-learn's API: prices, lines and what corrects them."""
