"""The service around the engine: accounts, uploads, assets, jobs, workers, playback.

Read `domain.py` for the words, `db/tables.py` for what is kept, `db/queue.py` for how a task lives.
"""
