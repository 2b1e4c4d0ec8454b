"""Search over plans: every candidate is priced by the function that prices one."""
