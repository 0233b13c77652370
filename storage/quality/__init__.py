"""Is a survey in the store fit for science: what is measured, what is held against it, the report.

``statistics`` measures one brick while its pixels are in memory; the other modules work on what
the ledger kept of it and on the object table, so that checking a survey opens no image.
"""
