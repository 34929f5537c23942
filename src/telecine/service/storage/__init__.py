"""Where bytes are kept: a protocol, its conformance suite (tests/service), and local disk."""
