"""Who boots what: guests, captures, the journal, and the run that ties them together."""
