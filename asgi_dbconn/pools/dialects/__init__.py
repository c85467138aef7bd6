"""The needs of each kind of database about its connections; one file for each."""
