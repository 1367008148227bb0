oarresume 16
