"""The REST interface: everybody gets their own answer, and each error is one line."""
