"""Data files of `mentor_gym`: task rows with teacher traces, and the open tables behind the `facts` suite."""
