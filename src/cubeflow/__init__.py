"""From IACT event lists and instrument responses (DL3) to maps and cubes."""
