"""What each kind of database wants of its connections; one file for each."""
