"""The strategies: what each is, one file each, and the menu that the configuration chooses from."""
