"""What people look at: pictures of a study's results."""
