import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;
import software.amazon.awssdk.core.async.AsyncRequestBody;
import software.amazon.awssdk.core.sync.RequestBody;
import software.amazon.awssdk.http.SdkHttpClient;
import software.amazon.awssdk.http.apache.ApacheHttpClient;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.http.urlconnection.UrlConnectionHttpClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbClient;
import software.amazon.awssdk.services.s3.S3AsyncClient;
import software.amazon.awssdk.services.s3.S3Client;
import software.amazon.awssdk.services.s3.model.NoSuchKeyException;
import software.amazon.awssdk.services.sts.StsClient;

/**
 * A program as people write it with the AWS SDK for Java, configured by the environment alone, with each of the SDK's
 * HTTP clients. It prints what it saw.
 */
public class Client {
  private static final String BUCKET = "countersign-java";
  private static final String KEY = "with space/ü+%25=&.txt";

  public static void main(String[] args) throws Exception {
    try (SdkHttpClient apache = ApacheHttpClient.create(); SdkHttpClient plain = UrlConnectionHttpClient.create()) {
      System.out.println("account " + StsClient.builder().httpClient(apache).build().getCallerIdentity().account());
      System.out.println("tables " + DynamoDbClient.builder().httpClient(plain).build().listTables().tableNames());

      S3Client s3 = S3Client.builder().httpClient(apache).build();
      s3.createBucket(r -> r.bucket(BUCKET));
      s3.putObject(r -> r.bucket(BUCKET).key(KEY), RequestBody.fromString("hello from Java"));
      System.out.println("apache " + s3.getObjectAsBytes(r -> r.bucket(BUCKET).key(KEY)).asUtf8String());

      S3Client s3plain = S3Client.builder().httpClient(plain).build();
      Path file = Files.createTempFile("countersign", ".bin");
      byte[] data = new byte[3 << 20];
      new Random(1).nextBytes(data);
      Files.write(file, data);
      s3plain.putObject(r -> r.bucket(BUCKET).key("file"), file);
      System.out.println("url connection " + s3plain.headObject(r -> r.bucket(BUCKET).key("file")).contentLength());
      Files.delete(file);

      try (S3AsyncClient netty = S3AsyncClient.builder()
          .httpClientBuilder(NettyNioAsyncHttpClient.builder()).multipartEnabled(true)
          .multipartConfiguration(c -> c.minimumPartSizeInBytes(5L << 20).thresholdInBytes(5L << 20).apiCallBufferSizeInBytes(5L << 20))
          .build()) {
        byte[] parts = new byte[11 << 20];
        netty.putObject(r -> r.bucket(BUCKET).key("parts"), AsyncRequestBody.fromBytes(parts)).join();
        System.out.println("netty " + netty.headObject(r -> r.bucket(BUCKET).key("parts")).join().contentLength());
      }

      try {
        s3.getObject(r -> r.bucket(BUCKET).key("missing")).close();
      } catch (NoSuchKeyException e) {
        System.out.println("missing " + e.statusCode() + " " + e.awsErrorDetails().errorCode());
      }
      for (String key : new String[] {KEY, "file", "parts"}) {
        s3.deleteObject(r -> r.bucket(BUCKET).key(key));
      }
      s3.deleteBucket(r -> r.bucket(BUCKET));
    }
  }
}
