"""Tasks whose answer is a program: what is asked, how the program is taken out of the answer, and what judges it."""
