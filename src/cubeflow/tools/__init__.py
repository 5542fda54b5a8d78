"""What people use beside the workflow: first configurations, checks of stores, a look into results."""
