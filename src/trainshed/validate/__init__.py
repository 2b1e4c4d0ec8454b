"""Published truth beside prediction: errors, fits, evidence, claims. The last room below the command line."""
