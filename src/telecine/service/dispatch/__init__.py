"""Waking workers. A doorbell says that there is work, never which: it may be lost or doubled."""
