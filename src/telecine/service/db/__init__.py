"""The database: tables, migrations, and every statement that the service says to it.

Functions take a `Tx` and say one thing; the use cases choose which of them make one transaction.
"""
