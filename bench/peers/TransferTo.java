// Java's FileChannel.transferTo(), which is what Kafka sends with.
//
//   java TransferTo.java PORT FILE WARM_UP_FILE
//
// As sendfile.c: connects to 127.0.0.1:PORT, sends FILE, and prints the seconds that took and the
// process's CPU seconds over that stretch. WARM_UP_FILE goes over a connection of its own before.
import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.net.InetSocketAddress;
import java.nio.channels.FileChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.Path;
import java.util.Locale;

public class TransferTo {
  static long send(int port, String path, boolean measured) throws IOException {
    var system = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    try (var socket = SocketChannel.open(new InetSocketAddress("127.0.0.1", port))) {
      long began = System.nanoTime();
      long cpuBefore = system.getProcessCpuTime();
      long position = 0;
      try (var file = FileChannel.open(Path.of(path))) {
        long size = file.size();
        while (position < size) position += file.transferTo(position, size - position, socket);
      }
      socket.shutdownOutput();
      double cpu = (system.getProcessCpuTime() - cpuBefore) / 1e9;
      double seconds = (System.nanoTime() - began) / 1e9;
      if (measured) {
        System.out.printf(Locale.ROOT, "{\"bytes\":%d,\"seconds\":%.6f,\"cpuSeconds\":%.6f}%n",
            position, seconds, cpu);
      }
      return position;
    }
  }

  public static void main(String[] args) throws IOException {
    int port = Integer.parseInt(args[0]);
    send(port, args[2], false);
    send(port, args[1], true);
  }
}
