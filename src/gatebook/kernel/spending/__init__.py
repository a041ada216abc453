"""What runs may spend and have spent beyond a run's own budget: prices, reservations, ledgers."""
