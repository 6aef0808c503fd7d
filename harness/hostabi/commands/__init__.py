"""What each subcommand of ``hostabi`` does, one module for each."""
