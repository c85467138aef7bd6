"""An application as users write them: it reads where its databases are when it is imported."""
