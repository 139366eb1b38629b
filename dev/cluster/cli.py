from cluster import binaries, paths
def main(argv):
    print(binaries.build_all(paths.layout(), [binaries.KUBERNETES] if argv[0]=="k" else binaries.ALL))
    return 0
