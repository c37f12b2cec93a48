"""What lies on this disk: the ledger, files, spools."""
