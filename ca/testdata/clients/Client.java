import java.net.Socket;
import java.util.List;
import javax.net.ssl.SNIHostName;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.SSLSocketFactory;

/** Usage: java Client.java NAME=PORT…  Prints "NAME accepted" or "NAME refused REASON". */
public class Client {
    public static void main(String[] args) throws Exception {
        SSLSocketFactory factory = (SSLSocketFactory) SSLSocketFactory.getDefault();
        for (String pair : args) {
            int at = pair.lastIndexOf('=');
            String name = pair.substring(0, at);
            int port = Integer.parseInt(pair.substring(at + 1));
            try (Socket plain = new Socket("127.0.0.1", port);
                    SSLSocket socket = (SSLSocket) factory.createSocket(plain, name, port, true)) {
                SSLParameters parameters = socket.getSSLParameters();
                parameters.setEndpointIdentificationAlgorithm("HTTPS");
                if (!Character.isDigit(name.charAt(0))) {
                    parameters.setServerNames(List.of(new SNIHostName(name)));
                }
                socket.setSSLParameters(parameters);
                socket.startHandshake();
                System.out.println(name + " accepted");
            } catch (Exception e) {
                StringBuilder reason = new StringBuilder();
                for (Throwable t = e; t != null; t = t.getCause()) {
                    reason.append(' ').append(t.getClass().getSimpleName()).append(": ").append(t.getMessage());
                }
                System.out.println(name + " refused" + reason.toString().replace('\n', ' '));
            }
        }
    }
}
