"""The database: tables, migrations, and every statement that the service says to it.

Functions take a `Tx` and say one thing; which of them make one transaction is the use cases' choice.
"""
