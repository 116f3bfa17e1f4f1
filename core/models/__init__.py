"""What a model is: its shape, licence and template; where its files lie."""
