"""Networks of links and switches as columns: how they are built, placed on, routed through and broken."""
