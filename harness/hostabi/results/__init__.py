"""Tables and pages, rendered from the journal and the captures beside it."""
