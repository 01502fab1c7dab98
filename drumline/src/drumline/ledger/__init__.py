"""The ledger: the rows of all durable tasks, the one store that changes them, and what is read of them."""
