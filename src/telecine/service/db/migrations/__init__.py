"""How the tables came to be, one revision after another. `db/migrate.py` runs them."""
