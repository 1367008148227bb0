oarresume 10
