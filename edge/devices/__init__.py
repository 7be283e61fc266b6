"""Device families, one file each: Meter, Switch or both. They do not know each other."""
