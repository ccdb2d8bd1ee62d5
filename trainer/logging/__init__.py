"""Where metrics go while a run goes on: each sink is a `Callback` of rank 0."""
